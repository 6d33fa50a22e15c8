"""The methods of the paper: each takes tensors and a model and returns a result; none opens a file or draws."""
