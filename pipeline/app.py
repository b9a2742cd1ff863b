"""The pipeline's composition root: the Faust app from our settings, with its two agents."""
