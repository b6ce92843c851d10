"""Label the photos in Label Studio that teach a classifier most; every annotation corrects it at once.

LABEL_STUDIO_API_KEY=… tip-adapter serve clothes.tip --protocol label-studio --label-studio-url http://127.0.0.1:8080
LABEL_STUDIO_API_KEY=… python examples/label_studio.py clothes.tip new/ --label-studio http://127.0.0.1:8080

Makes a project with the classifier's classes, connects the service to it (predictions, and a webhook that turns
annotations into shots), and imports the photos to label next, the most useful first. Photos go along in the tasks, so
that nothing else has to be shared.
"""

import argparse
import base64
import io
import json
import os
import urllib.request
from typing import Any
from xml.sax.saxutils import quoteattr

from tip_adapter import ImageClassifier
from tip_adapter.data import find_images
from tip_adapter.data.decoding import load_image

parser = argparse.ArgumentParser(description="Label in Label Studio what teaches a classifier most.")
parser.add_argument("classifier", help="a saved classifier")
parser.add_argument("photos", help="unlabelled photos")
parser.add_argument("--label-studio", default="http://127.0.0.1:8080")
parser.add_argument("--service", default="http://127.0.0.1:8000", help="where tip-adapter serve is")
parser.add_argument("--count", type=int, default=20, help="how many photos to label")
given = parser.parse_args()


def ask(path: str, body: Any) -> Any:
    """Ask Label Studio for something."""
    headers = {"Content-Type": "application/json", "Authorization": f"Token {os.environ['LABEL_STUDIO_API_KEY']}"}
    request = urllib.request.Request(given.label_studio + path, json.dumps(body).encode(), headers)  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.load(answer)


def as_address(path: str) -> str:
    """The photo itself as an address, upright and small enough for a page."""
    picture, file = load_image(path), io.BytesIO()
    picture.thumbnail((640, 640))
    picture.save(file, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


classifier = ImageClassifier.load(given.classifier)
chosen = classifier.next_to_label(find_images(given.photos), count=given.count, skip_bad=True)
choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in classifier.class_names)
config = f"""<View><Image name="photo" value="$image"/>
<Choices name="class" toName="photo" choice="single">{choices}</Choices></View>"""
project = ask("/api/projects/", {"title": f"Photos for {given.classifier}", "label_config": config})["id"]
backend = f"{given.service}/label-studio"
ask("/api/ml/", {"project": project, "title": "Tip-Adapter", "url": backend})
actions = ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]
hook = {"project": project, "url": f"{backend}/webhook", "send_payload": True, "actions": actions}
ask("/api/webhooks/", hook | {"send_for_all_actions": False})
tasks = [{"data": {"image": as_address(photo.path), "name": photo.path}} for photo in chosen]
ask(f"/api/projects/{project}/import", tasks)
print(f"{len(tasks)} photos to label: {given.label_studio}/projects/{project}")
