"""The families of models: encoder, encoder-decoder, decoder."""
