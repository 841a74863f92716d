"""DuckDB: Parquet and CSV written to s3:// and read back, whole, filtered, by pattern; one multipart file.

Results are compared with those of the same query on a table in memory.
"""

from importlib import resources

import duckdb

import store
from store import step

ROWS = 200_000
# The part size is that of a file with the maximum number of parts.
PARTS = {"s3_uploader_max_filesize": "'50GB'", "s3_uploader_max_parts_per_file": "10000"}


def connect(home):
    """A database in memory that knows the store. The extension is the packaged one: nothing is downloaded."""
    version = "v" + duckdb.__version__
    extension = resources.files("duckdb_extension_httpfs") / "extensions" / version / "httpfs.duckdb_extension"
    db = duckdb.connect(config={"home_directory": home, "autoinstall_known_extensions": False, "threads": 2})
    db.execute(f"LOAD '{extension}'")
    scheme, _, host = store.ENDPOINT.partition("://")
    db.execute(
        f"""CREATE SECRET (TYPE s3, KEY_ID '{store.KEY}', SECRET '{store.SECRET}', REGION '{store.REGION}',
        ENDPOINT '{host}', URL_STYLE 'path', USE_SSL {scheme == "https"})"""
    )
    db.execute(
        f"""CREATE TABLE numbers AS SELECT range AS id, range % 4 AS day, range * 0.5 AS value,
        CASE WHEN range % 7 <> 0 THEN 'text of ' || range END AS text FROM range({ROWS})"""
    )
    return db


def same(db, one, two):
    """Expects two queries to return the same rows, at least one."""
    (more, fewer, rows) = db.execute(
        f"SELECT (SELECT count(*) FROM ({one} EXCEPT ALL {two})), (SELECT count(*) FROM ({two} EXCEPT ALL {one})), "
        f"(SELECT count(*) FROM ({one}))"
    ).fetchone()
    assert (more, fewer) == (0, 0) and rows > 0, (one, more, fewer, rows)


def one_file(db, s3):
    step("one file, whole, filtered, by column")
    db.execute(f"COPY numbers TO '{s3}/one.parquet' (FORMAT parquet, ROW_GROUP_SIZE 20000)")
    same(db, f"FROM '{s3}/one.parquet'", "FROM numbers")
    some = "SELECT id, text FROM {} WHERE id BETWEEN 70000 AND 70099"
    same(db, some.format(f"'{s3}/one.parquet'"), some.format("numbers"))
    db.execute(f"COPY numbers TO '{s3}/a b+ü&.csv.gz'")
    same(db, f"FROM '{s3}/a b+ü&.csv.gz'", "FROM numbers")
    db.execute(f"COPY (SELECT 1 AS id) TO '{s3}/one.parquet'")
    assert db.execute(f"FROM '{s3}/one.parquet'").fetchall() == [(1,)]


def pattern(db, s3):
    step("a partitioned set, by a pattern")
    db.execute(f"COPY numbers TO '{s3}/set' (FORMAT parquet, PARTITION_BY (day), OVERWRITE_OR_IGNORE)")
    files = [name for (name,) in db.execute(f"SELECT file FROM glob('{s3}/set/*/*.parquet') ORDER BY 1").fetchall()]
    assert {name.split("/")[-2] for name in files} == {f"day={n}" for n in range(4)}, files
    whole = f"SELECT id, day, value, text FROM read_parquet('{s3}/set/**/*.parquet', hive_partitioning = true)"
    same(db, whole, "FROM numbers")
    same(db, f"{whole} WHERE day = 2", "FROM numbers WHERE day = 2")
    assert db.execute(f"SELECT count(*) FROM glob('{s3}/set/day=[13]/*')").fetchone()[0] == sum(
        "day=1" in name or "day=3" in name for name in files
    )


def in_parts(db, s3, bucket):
    step("a multipart file")
    for name, value in PARTS.items():
        db.execute(f"SET {name} = {value}")
    # Random numbers do not compress.
    db.execute("CREATE TABLE large AS SELECT hash(range) AS a, hash(range + 0.5) AS b, range AS id FROM range(1_000_000)")
    db.execute(f"COPY large TO '{s3}/large.parquet' (FORMAT parquet, COMPRESSION uncompressed)")
    head = store.connect().head_object(Bucket=bucket, Key="large.parquet")
    parts = head["ETag"].strip('"').rpartition("-")[2]
    assert head["ContentLength"] > 20 << 20 and int(parts) > 2, head
    digests = [f"SELECT count(*), bit_xor(hash(a, b, id)) FROM {where}" for where in (f"'{s3}/large.parquet'", "large")]
    same(db, *digests)


def main():
    with store.place("duckdb") as (bucket, work):
        store.connect().create_bucket(Bucket=bucket)
        db = connect(work)
        one_file(db, f"s3://{bucket}")
        pattern(db, f"s3://{bucket}")
        in_parts(db, f"s3://{bucket}", bucket)
        try:
            db.execute(f"FROM 's3://{bucket}/nothing.parquet'")
        except (duckdb.HTTPException, duckdb.IOException) as e:
            assert "404" in str(e), e
        else:
            raise AssertionError("a missing file was read")
    step("done")


main()
