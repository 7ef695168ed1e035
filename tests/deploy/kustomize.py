"""As much of kustomize as deploy/kubernetes uses: resources, components, patches, generated ConfigMaps, images, labels,
namespace. What it does not know is an error, so that nothing is passed over. Where kubectl is installed its answer is
compared with this one's (test_kubernetes.py)."""

import copy
import os

import yaml

from tree import read_yaml_all

KNOWN = {'apiVersion', 'kind', 'namespace', 'labels', 'resources', 'components', 'configMapGenerator', 'generatorOptions',
         'images', 'patches'}
CLUSTER_WIDE = {'Namespace'}
# Where a label of the kustomization goes besides metadata.labels, when it includes selectors.
SELECTORS = {'Service': [('spec', 'selector')], 'Deployment': [('spec', 'selector', 'matchLabels'),
                                                               ('spec', 'template', 'metadata', 'labels')],
             'PodDisruptionBudget': [('spec', 'selector', 'matchLabels')],
             'NetworkPolicy': [('spec', 'podSelector', 'matchLabels')]}


class Broken(AssertionError):
    pass


def need(condition, text):
    if not condition:
        raise Broken(text)


def identity(thing):
    return thing['kind'], thing['metadata']['name']


def merge(base, patch):
    """A strategic merge: maps by key, lists of named things by name, everything else replaced; null removes."""
    if isinstance(base, dict) and isinstance(patch, dict):
        result = dict(base)
        for key, value in patch.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = merge(base[key], value) if key in base else value
        return result
    if isinstance(base, list) and isinstance(patch, list) and all(isinstance(i, dict) and 'name' in i for i in base + patch):
        result = [merge(item, next((p for p in patch if p['name'] == item['name']), {})) for item in base]
        return result + [p for p in patch if p['name'] not in {i['name'] for i in base}]
    return patch


def apply_json_patch(thing, operations):
    for operation in operations:
        *folders, last = operation['path'].strip('/').split('/')
        place = thing
        for folder in folders:
            need(folder in place, f'{operation["path"]} is not in {identity(thing)}')
            place = place[folder]
        need(operation['op'] in ('remove', 'replace', 'add'), operation)
        need(operation['op'] == 'add' or last in place, f'{operation["path"]} is not in {identity(thing)}')
        if operation['op'] == 'remove':
            del place[last]
        else:
            place[last] = operation['value']


def apply_patch(things, patch, folder):
    need(set(patch) <= {'path', 'patch', 'target'}, f'unknown in a patch: {set(patch)}')
    if 'path' in patch:
        documents = read_yaml_all(existing(folder, patch['path']))
        need(len(documents) == 1, patch['path'])
        content = documents[0]
    else:
        content = yaml.safe_load(patch['patch'])
    target = patch.get('target') or {'kind': content['kind'], 'name': content['metadata']['name']}
    found = [i for i, thing in enumerate(things) if identity(thing) == (target['kind'], target['name'])]
    need(len(found) == 1, f'a patch for {target} finds {len(found)} objects')
    if isinstance(content, list):
        apply_json_patch(things[found[0]], content)
    else:
        things[found[0]] = merge(things[found[0]], content)


def existing(folder, name):
    path = os.path.normpath(os.path.join(folder, name))
    need(os.path.exists(path), f'{folder}: there is no {name}')
    return path


def generate(entry, options, folder):
    files = {}
    for file in entry['files']:
        with open(existing(folder, file), encoding='utf-8') as f:
            files[os.path.basename(file)] = f.read()
        need('/' not in file, f'{file}: kustomize reads no file outside its own folder')
    labels = entry.get('options', {}).get('labels')
    thing = {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': entry['name']}, 'data': files}
    if labels:
        thing['metadata']['labels'] = dict(labels)
    return thing


def add_labels(thing, entry):
    need(set(entry) <= {'includeSelectors', 'pairs'}, entry)
    thing['metadata'].setdefault('labels', {}).update(entry['pairs'])
    for path in SELECTORS.get(thing['kind'], []) if entry.get('includeSelectors') else []:
        place = thing
        for key in path:
            place = place.setdefault(key, {})
        place.update(entry['pairs'])


def containers(thing):
    return thing['spec']['template']['spec']['containers'] if thing['kind'] == 'Deployment' else []


def add_images(thing, images):
    for container in containers(thing):
        for image in images:
            if container['image'].split(':')[0] == image['name']:
                container['image'] = f'{image.get("newName", image["name"])}:{image["newTag"]}'


def build(folder, things=None):
    """The objects that `kubectl kustomize FOLDER` would print, without the hash on generated names."""
    documents = read_yaml_all(existing(folder, 'kustomization.yaml'))
    need(len(documents) == 1, folder)
    file = documents[0]
    need(set(file) <= KNOWN, f'{folder}: this does not know {set(file) - KNOWN}')
    things = [] if things is None else things
    for name in file.get('resources', []):
        path = existing(folder, name)
        things += build(path) if os.path.isdir(path) else copy.deepcopy(read_yaml_all(path))
    for entry in file.get('configMapGenerator', []):
        things.append(generate(entry, file.get('generatorOptions', {}), folder))
    for name in file.get('components', []):
        component = read_yaml_all(existing(folder, os.path.join(name, 'kustomization.yaml')))[0]
        need(component['kind'] == 'Component', name)
        things = build(existing(folder, name), things)
    for patch in file.get('patches', []):
        apply_patch(things, patch, folder)
    for thing in things:
        for entry in file.get('labels', []):
            add_labels(thing, entry)
        if 'namespace' in file and thing['kind'] not in CLUSTER_WIDE:
            thing['metadata']['namespace'] = file['namespace']
        add_images(thing, file.get('images', []))
    identities = [identity(thing) for thing in things]
    need(len(set(identities)) == len(identities), f'{folder}: twice: {identities}')
    return things
