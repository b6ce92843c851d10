#!/bin/sh
# Ask `tip-adapter serve` for the classes of photos, with curl.
#
# sh ask.sh http://127.0.0.1:8000 a.jpg b.jpg
address=$1
shift
for photo in "$@"; do
    curl --silent --show-error --fail-with-body --form "files=@$photo" "$address/v1/predict?top_k=3"
    echo
done
