#!/bin/sh
# Publishes an OCI layout from any CI that can run a container. COSIGN_PRIVATE_KEY, COSIGN_PASSWORD and REGISTRY_PASSWORD
# come from the CI's secret store; nothing secret is on the command line.
set -eu

TOUCHMARK_PASSWORD=$REGISTRY_PASSWORD docker run --rm \
    --volume "$PWD:/workspace" --workdir /workspace \
    --env COSIGN_PRIVATE_KEY --env COSIGN_PASSWORD \
    --env TOUCHMARK_PASSWORD \
    --env TOUCHMARK_USERNAME="$REGISTRY_USER" \
    --env TOUCHMARK_IMAGE="$IMAGE" \
    --env TOUCHMARK_SOURCE=oci:image \
    --env TOUCHMARK_KEY=env://COSIGN_PRIVATE_KEY \
    --env TOUCHMARK_ANNOTATIONS="sha=$COMMIT
run_id=$BUILD" \
    --env TOUCHMARK_OUTPUT_FILE=touchmark-result.json \
    ghcr.io/touchmark-dev/touchmark:v0
