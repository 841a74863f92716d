"""Uploads FILE to URL with one HTTP library, as its documentation shows it. Exit 0 only on a status below 300."""
import asyncio
import sys

how, path, url = sys.argv[1:]


def pieces():
    with open(path, "rb") as file:
        while piece := file.read(65536):
            yield piece


async def pieces_async():
    for piece in pieces():
        yield piece


def requests_bytes():
    import requests
    return requests.put(url, data=open(path, "rb").read()).status_code


def requests_file():
    import requests
    with open(path, "rb") as file:
        return requests.put(url, data=file).status_code


def requests_generator():
    import requests
    return requests.put(url, data=pieces()).status_code


def urllib3_file():
    import urllib3
    with open(path, "rb") as file:
        return urllib3.PoolManager().request("PUT", url, body=file).status


def urllib3_generator():
    import urllib3
    return urllib3.PoolManager().request("PUT", url, body=pieces()).status


def httpx_bytes():
    import httpx
    return httpx.put(url, content=open(path, "rb").read(), timeout=120).status_code


def httpx_generator():
    import httpx
    return httpx.put(url, content=pieces(), timeout=120, follow_redirects=True).status_code


async def aiohttp_put(data, **more):
    import aiohttp
    async with aiohttp.ClientSession() as session:
        async with session.put(url, data=data, **more) as answer:
            return answer.status


def aiohttp_file():
    with open(path, "rb") as file:
        return asyncio.run(aiohttp_put(file))


def aiohttp_generator():
    return asyncio.run(aiohttp_put(pieces_async()))


# These may be redirected. Except aiohttp, these libraries do not wait before they send, and to the redirect's target
# they send the rest of the file, or nothing.
EXPECT = {"Expect": "100-continue"}


def requests_file_expect():
    import requests
    with open(path, "rb") as file:
        return requests.put(url, data=file, headers=EXPECT).status_code


def requests_generator_expect():
    import requests
    return requests.put(url, data=pieces(), headers=EXPECT).status_code


def urllib3_file_expect():
    import urllib3
    with open(path, "rb") as file:
        return urllib3.PoolManager().request("PUT", url, body=file, headers=EXPECT).status


def urllib3_generator_expect():
    import urllib3
    return urllib3.PoolManager().request("PUT", url, body=pieces(), headers=EXPECT).status


def httpx_bytes_expect():
    import httpx
    data = open(path, "rb").read()
    return httpx.put(url, content=data, headers=EXPECT, timeout=120, follow_redirects=True).status_code


def httpx_generator_expect():
    import httpx
    return httpx.put(url, content=pieces(), headers=EXPECT, timeout=120, follow_redirects=True).status_code


def aiohttp_file_expect():
    with open(path, "rb") as file:
        return asyncio.run(aiohttp_put(file, expect100=True))


def aiohttp_generator_expect():
    return asyncio.run(aiohttp_put(pieces_async(), expect100=True))


status = globals()[how]()
print(status)
sys.exit(0 if status < 300 else 1)
