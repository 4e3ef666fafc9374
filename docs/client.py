"""An API client of the studio. Run `make app`, then `python docs/client.py http://localhost:7860`."""

import sys

from gradio_client import Client, handle_file

client = Client(sys.argv[1], verbose=False)  # auth=("user", "password") if the studio has a login
cat = {"subject": "a cat", "scenes": ["in the forest", "on the beach"], "steps": 20, "seed": 7}

pictures, masks, story = client.predict(**cat, preset="consistory", api_name="/generate")
print(story["status"], *pictures, sep="\n")  # noqa: T201 - an example prints its results

result = client.predict(
    pictures=[handle_file(file) for file in pictures],
    prompts=[frame["prompt"] for frame in story["frames"]],
    masks=[handle_file(file) for file in masks],
    storybook=True,  # the embedded model generated them
    api_name="/score",
)
for score in result["scores"]:
    print(score["name"], round(score["value"], 3))  # noqa: T201

figure, rows = client.predict(**cat, settings=["plain", "sdsa", "svd-quantile"], api_name="/compare")
for row in rows:
    print(row["name"], *row["differences"], row["scores"], sep="; ")  # noqa: T201
print(figure)  # noqa: T201
