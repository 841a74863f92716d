#!/usr/bin/env bash
# Docker's registry with its images in the store: skopeo copies images to it, between its names, and back, and deletes
# one, and the registry collects garbage. Layers are multipart uploads and are read by presigned redirects.
# Downloads are compared by digest.
# shellcheck source=tests/clients/place.sh disable=SC1091,SC2154
source "$(dirname "${BASH_SOURCE[0]}")/place.sh"
# shellcheck source=tests/clients/serve.sh disable=SC1091
source "$here/serve.sh"

docker-registry --version
skopeo --version
make_bucket

cat >registry.yml <<END
version: 0.1
log: { level: info, accesslog: { disabled: true } }
http: { addr: "127.0.0.1:0", secret: of-this-test }
storage:
  delete: { enabled: true }
  s3:
    accesskey: $BARGE_S3_KEY
    secretkey: $BARGE_S3_SECRET
    region: $REGION
    regionendpoint: $BARGE_S3_ENDPOINT
    bucket: $bucket
    rootdirectory: /registry
    encrypt: false
    secure: $([[ $BARGE_S3_ENDPOINT == https:* ]] && echo true || echo false)
    chunksize: 5242880
    # An upload is copied to the path of its digest: above this size in parts.
    multipartcopychunksize: 5242880
    multipartcopythresholdsize: 8388608
END

step "the registry"
serve 'listening on ([0-9.:]+)' docker-registry serve registry.yml
address=${BASH_REMATCH[1]}
copy() { skopeo --insecure-policy copy --quiet --src-tls-verify=false --dest-tls-verify=false "$@"; }
there() { echo "docker://$address/$1"; }
digest() { digests "$1" | cut -d' ' -f1; }

# blob DIRECTORY FILE TYPE: moves it to its digest; prints its manifest entry.
blob() {
  mkdir -p "$1/blobs/sha256"
  printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%s}' \
    "$3" "$(digest "$2")" "$(stat -c %s "$2")"
  mv "$2" "$1/blobs/sha256/$(digest "$2")"
}

# image DIRECTORY FILE...: an image from scratch, with one layer per file.
image() {
  local to=$1 layers='' diffs='' layer
  shift
  for layer in "$@"; do
    tar --sort=name --mtime=@0 --owner=0 --group=0 -cf layer.tar "$layer"
    diffs+=",\"sha256:$(digest layer.tar)\""
    gzip -n layer.tar
    layers+=,$(blob "$to" layer.tar.gz layer.v1.tar+gzip)
  done
  printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}' \
    "${diffs#,}" >config
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
    "$(blob "$to" config config.v1+json)" "${layers#,}" >manifest
  printf '{"schemaVersion":2,"manifests":[%s]}' "$(blob "$to" manifest manifest.v1+json)" >"$to/index.json"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$to/oci-layout"
}

step "an image, both ways"
file small 70000
file large $((14 << 20))
file other 1000
image one small large
image two small other
copy oci:one "$(there first/image:1)"
copy "$(there first/image:1)" oci:back
same one/blobs back/blobs
skopeo inspect --tls-verify=false --raw "$(there first/image:1)" >inspected
found -F "$(digest inspected)" one/index.json || fail "wrong digest"

step "an image that shares a layer, and tags"
copy oci:two "$(there first/image:2)"
copy "$(there first/image:2)" "$(there second/image:2)"
copy "$(there second/image:2)" oci:two-back
same two/blobs two-back/blobs
skopeo list-tags --tls-verify=false "$(there first/image)" | tr -d ' \n' >tags
found -F '"Tags":["1","2"]' tags || fail "other tags: $(<tags)"
curl -qfsS "http://$address/v2/_catalog" | found -F '["first/image","second/image"]' || fail "a name is not listed"

step "a push over a tag"
copy oci:two "$(there first/image:1)"
copy "$(there first/image:1)" oci:again
same two/blobs again/blobs

step "delete and garbage collection"
skopeo delete --tls-verify=false "$(there second/image:2)"
refuses skopeo inspect --tls-verify=false --raw "$(there second/image:2)"
found -F 'manifest unknown' refused.log || fail "refused for another reason: $(<refused.log)"
docker-registry garbage-collect --delete-untagged registry.yml >garbage.log 2>&1 || fail "$(<garbage.log)"
found -F 'eligible for deletion' garbage.log || fail "no garbage was found: $(<garbage.log)"
copy "$(there first/image:2)" oci:kept
same two/blobs kept/blobs
# The large layer belongs to the deleted image.
PYTHONPATH=$here python3 - "$bucket" <<'END'
import sys
import store
pages = store.connect().get_paginator("list_objects_v2").paginate(Bucket=sys.argv[1], Prefix="registry/")
sizes = [entry["Size"] for page in pages for entry in page["Contents"]]
assert sizes and max(sizes) < 1 << 20, sizes
END

step "remove"
stop
remove_bucket
step "done"
