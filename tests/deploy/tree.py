"""Reads what deploy/ holds."""

import json
import os
import shutil
import subprocess

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEPLOY = os.path.join(ROOT, 'deploy')


class StrictLoader(yaml.SafeLoader):
    """A key twice is an error: PyYAML takes the last one, and Kubernetes may not."""


def mapping_without_doubles(loader, node):
    keys = [loader.construct_object(k) for k, _ in node.value if k.tag != 'tag:yaml.org,2002:merge']
    doubles = {k for k in keys if keys.count(k) > 1}
    assert not doubles, f'{node.start_mark}: keys twice: {doubles}'
    loader.flatten_mapping(node)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping_without_doubles)


def path_of(*parts):
    return os.path.join(DEPLOY, *parts)


def read(*parts):
    with open(path_of(*parts), encoding='utf-8') as f:
        return f.read()


def read_yaml_all(path):
    with open(path, encoding='utf-8') as f:
        return [d for d in yaml.load_all(f, StrictLoader) if d is not None]  # nosec: a SafeLoader


def read_yaml(*parts):
    documents = read_yaml_all(path_of(*parts))
    assert len(documents) == 1, parts
    return documents[0]


def read_json(*parts):
    return json.loads(read(*parts))


def files(*endings):
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(DEPLOY) for name in names
                  if name.endswith(endings))


def need_promtool():
    path = shutil.which('promtool')
    assert path, 'promtool is not there (Debian: prometheus): ./build.sh deps test'
    return path


def promtool(*arguments):
    """The exit code and everything it said."""
    done = subprocess.run([need_promtool(), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                          check=False)
    return done.returncode, done.stdout.decode()
