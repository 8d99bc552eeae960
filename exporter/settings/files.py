"""Files that settings name: keys, tokens, certificates and configurations, each read again when it has changed."""

import errno
import os
import stat
from pathlib import Path
from typing import TextIO


def open_regular(path: Path) -> TextIO:
    """Open a file to read its text, UTF-8 with or without a byte order mark.

    Of a pipe the opening alone could take for ever, and what was read would be gone for the next reader.

    Raises:
        OSError: it cannot be opened, or it is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, "not a regular file, which can be read again; write it to one")
    return os.fdopen(descriptor, encoding="utf-8-sig")
