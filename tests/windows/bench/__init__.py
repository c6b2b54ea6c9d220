"""The Windows bench: the real uv.exe and a real Windows Python under Wine, with a shim that refuses starts by policy.

`setup` builds it into the git-ignored folder `.bench/` (`python -m tests.windows.bench build`), `run` starts programs
in it, `policy` turns AppLocker XML into what the shim obeys and into registry keys, `index` serves packages to uv.
"""
