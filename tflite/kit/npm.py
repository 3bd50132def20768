"""LiteRT.js on npm: the pinned packages of a kit's page, and which of their files the page needs."""

from __future__ import annotations

from typing import Any

LITERT_JS_VERSION = "2.5.3"  # the version that the tests ran
CORE, UTILS = "@litertjs/core", "@litertjs/wasm-utils"
# npm package -> the digest of this version in the registry.
PACKAGES = {
    CORE: "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    UTILS: "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
}
# File in the page's folder litert/ -> file in node_modules/. "compat" is for browsers without relaxed SIMD.
LITERT_FILES = {
    "core.js": f"{CORE}/dist/index.js",
    "wasm-utils.js": f"{UTILS}/dist/index.js",
    **{
        file: f"{CORE}/wasm/{file}"
        for part in ("", "_compat")
        for file in (f"litert_wasm{part}_internal.js", f"litert_wasm{part}_internal.wasm")
    },
}
SERVER = "http-server@14.1.1"  # any static server will do


def npm_package(name: str) -> dict[str, Any]:
    """Content of ``package.json``: pinned versions, and what ``setup.mjs`` copies."""
    return {
        "name": f"model-{name}".lower(),
        "version": "1.0.0",
        "private": True,
        "type": "module",
        "scripts": {"postinstall": "node setup.mjs", "start": f"npx --yes {SERVER} . -a 127.0.0.1 -p 8000 -c-1"},
        "dependencies": dict.fromkeys(PACKAGES, LITERT_JS_VERSION),
        "engines": {"node": ">=18"},
        "litert": LITERT_FILES,
    }


def npm_lock(package: dict[str, Any]) -> dict[str, Any]:
    """Content of ``package-lock.json``, so that `npm ci` accepts only the packages that were tested."""
    root = {key: package[key] for key in ("name", "version")}
    own = {**root, "hasInstallScript": True, "dependencies": package["dependencies"], "engines": package["engines"]}
    locked: dict[str, dict[str, Any]] = {
        one: {"version": LITERT_JS_VERSION, "integrity": digest, "license": "Apache-2.0"}
        for one, digest in PACKAGES.items()
    }
    locked[CORE]["dependencies"] = {UTILS: f"^{LITERT_JS_VERSION}"}
    packages = {"": own, **{f"node_modules/{one}": row for one, row in locked.items()}}
    return {**root, "lockfileVersion": 3, "requires": True, "packages": packages}
