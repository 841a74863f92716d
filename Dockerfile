# One image with the three programs, statically linked, and nothing else; each container chooses its
# program with --entrypoint. The build context is target/barge-bins: `./docker.sh build` fills it.
FROM scratch
COPY master volume barge /
ENV BARGE_URL=http://localhost:3000
STOPSIGNAL SIGTERM
ENTRYPOINT ["/barge"]
CMD ["--help"]
