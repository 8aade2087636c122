# One image for the API, the workers and the command line: `taskward api`, `taskward worker --app examples.app:app`.

FROM python:3.12-slim AS build
RUN python -m venv /opt/taskward
ENV PATH=/opt/taskward/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
# What changes seldom comes first. Everything is locked by its hash, what builds the package too.
COPY requirements/runtime.txt requirements/examples.txt requirements/
RUN pip install --require-hashes -r requirements/runtime.txt -r requirements/examples.txt
COPY pyproject.toml README.md LICENSE ./
COPY sched/ sched/
RUN pip install --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin taskward
COPY --from=build /opt/taskward /opt/taskward
WORKDIR /srv
COPY examples/ examples/
ENV PATH=/opt/taskward/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 8080 2112 2113
CMD ["taskward", "--help"]
