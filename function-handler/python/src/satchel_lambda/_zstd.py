"""Compression with zstd, by the standard library or by the package `zstandard`.

Without either, responses are not compressed. Requests are not compressed then either, because a
coordinator compresses only for handlers that have answered so.
"""

import io
import threading

try:
    from compression import zstd as _standard
except ImportError:
    _standard = None
try:
    import zstandard as _package
except ImportError:
    _package = None

# A larger window would only take memory, because no content may be larger.
_WINDOW_LOG_MAX = 26

available = _standard is not None or _package is not None


# Making a compressor costs more than compressing a small answer, and threads cannot share one.
_kept = threading.local()


def compress(data):
    """Compresses to one frame."""
    compressor = getattr(_kept, "compressor", None)
    if compressor is None:
        library = _package if _standard is None else _standard
        compressor = _kept.compressor = library.ZstdCompressor(level=1)
    if _standard is None:
        return compressor.compress(data)
    return compressor.compress(data, _standard.ZstdCompressor.FLUSH_FRAME)


def decompress(data, bytes_max):
    """Decompresses at most one byte more than `bytes_max`. Raises ValueError."""
    try:
        if _standard is not None:
            options = {_standard.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX}
            decompressor = _standard.ZstdDecompressor(options=options)
            unpacked = decompressor.decompress(data, bytes_max + 1)
            complete = decompressor.eof or len(unpacked) > bytes_max
        else:
            decompressor = _package.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG_MAX)
            with decompressor.stream_reader(io.BytesIO(data)) as reader:
                unpacked = reader.read(bytes_max + 1)
            # The reader does not report a frame that ends early, so the size must fit.
            size = _package.get_frame_parameters(data).content_size
            known = size != _package.CONTENTSIZE_UNKNOWN
            complete = len(unpacked) > bytes_max or not known or size == len(unpacked)
    except Exception as error:
        # Each library has errors of its own.
        raise ValueError(str(error)) from error
    if not complete:
        raise ValueError("the frame is incomplete")
    return unpacked
