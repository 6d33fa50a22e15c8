"""``python -m zfkernels``."""

from zfkernels.cli import main

main()
