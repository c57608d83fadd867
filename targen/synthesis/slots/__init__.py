"""The rows that are to be made, what each is assigned, and the shares of several processes."""
