"""Which rows the students of a study are taught."""
