"""The program: the outermost ring, where producers, pipeline and consumers meet."""
