# The image of the controller. Everything in it is a wheel, so one file does for every platform for which there are some:
#   docker buildx build --platform linux/amd64,linux/arm64 --tag registry.example.com/tripylon/controller:0.1.0 --push .
# PYTHON may name a mirror or a digest of the same image.
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/run.txt requirements/run.txt
# One environment makes our wheel, the other one is shipped: it has neither pip nor what only builds need.
RUN python -m venv --without-pip /tools \
 && python -m venv --without-pip /opt/tripylon \
 && pip --python /tools/bin/python install --require-hashes --only-binary :all: -r requirements/run.txt \
 && pip --python /opt/tripylon/bin/python install --require-hashes --only-binary :all: -r requirements/run.txt \
 && pip --python /opt/tripylon/bin/python uninstall --yes hatchling packaging pathspec pluggy trove-classifiers
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip --python /tools/bin/python wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/tripylon/bin/python install --no-deps --no-index dist/*.whl
# What is read out of Envoy's binary is read now, and others than root may see it: a controller writes nothing.
RUN TRIPYLON_CACHE_DIR=/opt/tripylon/cache /opt/tripylon/bin/python -c \
    'from tripylon.pb.descriptors import serialised_descriptors; serialised_descriptors()' \
 && chmod -R a+rX /opt/tripylon/cache

FROM ${PYTHON}
LABEL org.opencontainers.image.title="Tripylon controller" \
      org.opencontainers.image.description="Control plane of the Tripylon gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/tripylon /opt/tripylon
ENV PATH=/opt/tripylon/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TRIPYLON_CACHE_DIR=/opt/tripylon/cache
USER 65532:65532
EXPOSE 9977 9092 9093
ENTRYPOINT ["tripylon"]
CMD ["controller"]
