"""The Wayleave agent: what runs on a workstation. Standard library, httpx and truststore; nothing of `app`."""

__version__ = "0.1.0"
