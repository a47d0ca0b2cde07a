"""What a method is given: its settings' base class and the `Run` that carries data, teacher and training."""

from __future__ import annotations
