"""The rows to make: their labels, contexts and variants, and the shares of several processes."""
