"""The backend of `vmap`: each of its arrays is that of all samples, seen as the array of one."""
