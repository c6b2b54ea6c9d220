# The server, and (target `agent`) the agent of the demo. Built from Debian's packages and pinned Python and npm packages.
# Behind a proxy that terminates TLS with a certificate of its own, mount it and name it in both arguments:
#   docker build --build-arg PIP_CERT=/ca.crt --build-arg NODE_EXTRA_CA_CERTS=/ca.crt .
ARG BASE=docker.io/library/debian:trixie-slim

FROM ${BASE} AS python
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/share/doc /usr/share/man \
 && groupadd --system --gid 10001 wayleave \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/wayleave --create-home --shell /usr/sbin/nologin wayleave \
 && install -d -o wayleave -g wayleave /secrets /enrolment
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/wayleave/bin:/usr/bin:/bin

FROM python AS build
ARG PIP_CERT
ARG NODE_EXTRA_CA_CERTS
ENV PYTHONDONTWRITEBYTECODE= PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_QUIET=1
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv \
 && python3 -m venv /build && python3 -m venv --without-pip /opt/wayleave && python3 -m venv --without-pip /opt/agent
WORKDIR /source
COPY requirements/build.txt requirements/server.txt requirements/
RUN /build/bin/pip install --require-hashes -r requirements/build.txt \
 && /build/bin/pip --python /opt/wayleave/bin/python install --require-hashes -r requirements/server.txt
COPY package.json package-lock.json .npmrc ./
COPY requirements/node.txt requirements/
COPY tools/icons.txt tools/vendor.py tools/
RUN mkdir static && NODE_ENV=production /build/bin/python tools/vendor.py
COPY pyproject.toml README.md ./
COPY agent/ agent/
COPY app/ app/
COPY migrations/ migrations/
COPY templates/ templates/
COPY static/ static/
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /build/bin/pip --python /opt/wayleave/bin/python install --no-deps /wheel/*.whl \
 && find /opt/wayleave/lib -depth \( -name '*.pyi' -o -type d -path '*/numpy/*' -name tests \) -exec rm -r {} +

FROM build AS build-agent
ARG PIP_CERT
COPY requirements/demo.txt requirements/
RUN /build/bin/pip --python /opt/agent/bin/python install --require-hashes -r requirements/demo.txt \
 && /build/bin/pip --python /opt/agent/bin/python install --no-deps /wheel/*.whl

FROM python AS agent
COPY --from=build-agent /opt/agent /opt/agent
ENV PATH=/opt/agent/bin:/usr/bin:/bin
USER 10001:10001
WORKDIR /var/lib/wayleave
CMD ["wayleave-agent", "run"]

FROM python AS server
COPY --from=build /opt/wayleave /opt/wayleave
ENV WAYLEAVE_DATA_DIR=/var/lib/wayleave
VOLUME /var/lib/wayleave
USER 10001:10001
WORKDIR /var/lib/wayleave
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["wayleave", "serve", "--host", "0.0.0.0", "--port", "8000"]
