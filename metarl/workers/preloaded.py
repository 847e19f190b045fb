"""Imported by the server process only, before it forks workers."""

from __future__ import annotations

from metarl.workers import process as process
from metarl.workers.server import remove_folder_at_end

remove_folder_at_end()
