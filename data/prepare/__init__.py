"""Commands that turn a public data set, as it is distributed, into folders and a data YAML of ours."""
