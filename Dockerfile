# One program, statically linked, by the names barge, master and volume, and nothing else; each container chooses one
# with --entrypoint. The build context is a folder in
# target/barge-bins: `./docker.sh build` fills it.
FROM scratch
COPY . /
ENV BARGE_URL=http://localhost:3000
STOPSIGNAL SIGTERM
ENTRYPOINT ["/barge"]
CMD ["--help"]
