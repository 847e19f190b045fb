"""Warnings that are logged once per process."""

from __future__ import annotations

import functools
from logging import Logger


@functools.cache
def warn_once(logger: Logger, message: str) -> None:
    """Logs a warning unless the same one was logged before.

    Args:
        logger: The module's logger.
        message: One line.
    """
    logger.warning("%s", message)
