"""Packages jobs, models and schemas, so that a wheel can be shipped to a cluster: `pip wheel . --no-deps`."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# What a saved model needs to embed, on a host without Spark; everything else is an extra.
INFERENCE = {
    "huggingface-hub", "numpy", "pillow", "pydantic", "safetensors", "timm", "tokenizers", "torch", "torchvision",
    "transformers",
}  # fmt: skip


def pins(name: str) -> list[str]:
    """The direct requirements of `requirements/<name>.in`, with their exact versions."""
    lines = (HERE / "requirements" / f"{name}.in").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


setup(
    name="make-embeddings",
    version="0.1.0",
    description="Nightly multimodal product embeddings on Spark",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").is_file() else "",
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["jobs*", "models*", "schemas*"]),
    package_data={f"jobs.{package}": ["templates/*"] for package in ("core", "operations", "training")},
    install_requires=[pin for pin in pins("spark") if pin.partition("==")[0] in INFERENCE],
    extras_require={"spark": pins("spark"), "airflow": pins("airflow"), "dev": pins("spark-dev")},
)
