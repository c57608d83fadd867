"""The cells of the training grid and the rows each is trained on."""
