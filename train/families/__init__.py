"""The three families of models: encoder, encoder-decoder, decoder."""
