"""The numbers of the tables as figures."""
