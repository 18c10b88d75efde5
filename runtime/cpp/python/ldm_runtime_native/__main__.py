"""`python -m ldm_runtime_native` prints the folder that the library is installed in."""

from ldm_runtime_native import prefix

print(prefix())
