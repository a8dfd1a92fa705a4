#!/bin/sh
# The last step of an image's packages, in /opt/cxr: the project itself, a bill of materials, and away with what a
# server never loads.
set -eu
pip=/opt/cxr/bin/pip
$pip install --quiet --no-deps --no-build-isolation /src/client /src/server
$pip uninstall --quiet --yes setuptools pip

# Everything that is installed, with versions and licences. Debian's own packages are in /var/lib/dpkg/status.
/opt/tools/bin/cyclonedx-py environment /opt/cxr/bin/python3 --output-format JSON \
    --output-reproducible --output-file /opt/cxr/sbom.cdx.json

cd /opt/cxr/lib/python3*/site-packages
# The server runs OpenVINO's own format on the CPU: not the plug-ins for other devices, nor what reads the formats
# of other frameworks. cache.json is of the GPU plug-in.
find openvino/libs -name 'libopenvino_*' ! -name '*_cpu_plugin.so' ! -name 'libopenvino_ir_frontend.so*' -delete
rm -r openvino/libs/cache.json openvino/include
# Tests of the packages.
find . -type d -name tests -prune -exec rm -r {} +
