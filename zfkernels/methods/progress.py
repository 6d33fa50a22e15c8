from zfkernels.progress import progress_bar

__all__ = ["progress_bar"]
