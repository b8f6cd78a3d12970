"""MediaPipe Hands as a program of its own: images on stdin, hands on stdout. `beside.MediaPipe` starts it.

It runs in an environment that has mediapipe and nothing of handmesh, so it imports neither handmesh nor what came after
Python 3.9. A request is a line of JSON with the `height` and `width` of the image that follows, as height x width x 3
bytes of RGB; an empty line asks only what has been used. An answer is a line of JSON with

* `hands`: as in a pseudo_labels.json, see `handmesh.data.photos`;
* `wall_ms`: what `Hands.process` took;
* `processor_s`: of all threads since the start, but for reading and answering.

The first line of all is the `version` of mediapipe, or an `error`.
"""

from __future__ import annotations

import json
import os
import sys
import time

SIDES = {"Left": "right", "Right": "left"}
"""MediaPipe takes images for mirrored ones. In one that is not, the subject's own right hand is called Left."""


def main(num_hands, video):
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    os.environ.setdefault("GLOG_minloglevel", "2")
    try:
        import mediapipe
        import numpy as np

        kind = mediapipe.solutions.hands.Hands
    except Exception as error:  # mediapipe loads much that may not fit together
        print(
            json.dumps({"error": " ".join(f"{type(error).__name__}: {error}".split())[:200]}), file=answers, flush=True
        )
        return
    with kind(static_image_mode=not video, max_num_hands=num_hands, model_complexity=1) as hands:
        print(json.dumps({"version": mediapipe.__version__}), file=answers, flush=True)
        aside_s = 0.0
        while True:
            begin_s = time.thread_time()
            line = sys.stdin.buffer.readline()
            if not line:
                return
            answer = {}
            if line.strip():
                size = json.loads(line)
                data = sys.stdin.buffer.read(size["height"] * size["width"] * 3)
                image = np.frombuffer(data, np.uint8).reshape(size["height"], size["width"], 3)
                aside_s += time.thread_time() - begin_s
                begin = time.perf_counter()
                results = hands.process(image)
                answer["wall_ms"] = 1000 * (time.perf_counter() - begin)
                begin_s = time.thread_time()
                answer["hands"] = hands_of(results, size["width"], size["height"])
            aside_s += time.thread_time() - begin_s
            answer["processor_s"] = time.process_time() - aside_s
            print(json.dumps(answer), file=answers, flush=True)


def hands_of(results, width, height):
    """MediaPipe's results as labels: sides of the subject, pixels whose middles are whole numbers, metres."""
    hands = []
    for k, seen in enumerate(results.multi_hand_landmarks or ()):
        said, world = results.multi_handedness[k].classification[0], results.multi_hand_world_landmarks[k]
        uv = [[point.x * width - 0.5, point.y * height - 0.5] for point in seen.landmark]
        xyz = [[point.x, point.y, point.z] for point in world.landmark]
        hands.append({"hand": SIDES[said.label], "score": said.score, "uv": uv, "xyz": xyz})
    return hands


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
