"""PURE: uv's output in any version, language and wrapping -> what was blocked, by whom, and what helps."""

from app.diagnosis.diagnose import diagnose, without_advice
from app.diagnosis.model import Advice, Diagnosis, Finding

__all__ = ["Advice", "Diagnosis", "Finding", "diagnose", "without_advice"]
