"""The fields of Kubernetes' objects that deploy/ uses, as the API's reference documents them. A field that is not here is an
error: either it is misspelt, or it is new and has to be added.

A type is: a Python type; a tuple of allowed words; [type] for a list; {...} for a map with these fields, `!` in front of
those that have to be there; Map(type) for a map with free keys; a function that returns whether it likes the value."""

import re


class Map:
    def __init__(self, value):
        self.value = value


def name(value):
    return isinstance(value, str) and len(value) <= 63 and re.fullmatch(r'[a-z0-9]([-a-z0-9]*[a-z0-9])?', value) is not None


def quantity(value):
    return isinstance(value, str) and re.fullmatch(r'[0-9]+(\.[0-9]+)?(m|k|Ki|Mi|Gi|Ti|M|G|T)?', value) is not None


def port(value):
    return isinstance(value, int) and 0 < value < 65536 or isinstance(value, str) and name(value) and len(value) <= 15


def label_key(value):
    return re.fullmatch(r'([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?', value) is not None


LABELS = Map(str)
METADATA = {'!name': str, 'namespace': name, 'labels': LABELS, 'annotations': Map(str)}
SELECTOR = {'matchLabels': LABELS}
PROBE = {'!httpGet': {'!path': str, '!port': port}, 'periodSeconds': int, 'timeoutSeconds': int, 'failureThreshold': int,
         'initialDelaySeconds': int, 'successThreshold': int}
SECCOMP = {'!type': ('RuntimeDefault', 'Localhost'), 'localhostProfile': str}
CONTAINER = {
    '!name': name, '!image': str, 'imagePullPolicy': ('IfNotPresent', 'Always', 'Never'), 'args': [str], 'command': [str],
    'ports': [{'name': port, '!containerPort': int, 'protocol': ('TCP', 'UDP')}],
    'env': [{'!name': str, 'value': str}],
    '!resources': {'!requests': {'!cpu': quantity, '!memory': quantity}, '!limits': {'!cpu': quantity, '!memory': quantity}},
    '!securityContext': {'!allowPrivilegeEscalation': bool, '!readOnlyRootFilesystem': bool, 'privileged': bool,
                         '!capabilities': {'!drop': [str], 'add': [str]}},
    'startupProbe': PROBE, 'readinessProbe': PROBE, 'livenessProbe': PROBE,
    'lifecycle': {'preStop': {'exec': {'!command': [str]}}},
    'volumeMounts': [{'!name': name, '!mountPath': str, 'readOnly': bool, 'subPath': str}]}
POD = {
    'serviceAccountName': name, 'automountServiceAccountToken': bool, 'enableServiceLinks': bool,
    'terminationGracePeriodSeconds': int, 'nodeSelector': LABELS,
    '!securityContext': {'!runAsNonRoot': bool, 'runAsUser': int, 'runAsGroup': int, 'fsGroup': int, '!seccompProfile': SECCOMP},
    'topologySpreadConstraints': [{'!maxSkew': int, '!topologyKey': str, '!labelSelector': SELECTOR,
                                   '!whenUnsatisfiable': ('ScheduleAnyway', 'DoNotSchedule')}],
    '!containers': [CONTAINER],
    'volumes': [{'!name': name, 'configMap': {'!name': name}, 'emptyDir': {'sizeLimit': quantity}}]}
METRIC_TARGET = {'!type': ('AverageValue', 'Utilization', 'Value'), 'averageValue': quantity, 'averageUtilization': int,
                 'value': quantity}
REFERENCE = {'!apiVersion': str, '!kind': str, '!name': name}
SCALING = {'stabilizationWindowSeconds': lambda v: isinstance(v, int) and 0 <= v <= 3600,
           'policies': [{'!type': ('Percent', 'Pods'), '!value': int,
                         '!periodSeconds': lambda v: isinstance(v, int) and 0 < v <= 1800}]}
POLICY_PORTS = [{'!port': port, 'protocol': ('TCP', 'UDP')}]

KINDS = {
    ('v1', 'Namespace'): {},
    ('v1', 'ServiceAccount'): {'automountServiceAccountToken': bool},
    ('v1', 'ConfigMap'): {'!data': Map(str)},
    ('v1', 'Service'): {'!spec': {
        'type': ('ClusterIP', 'NodePort', 'LoadBalancer'), 'clusterIP': ('None',), '!selector': LABELS,
        '!ports': [{'name': port, '!port': int, 'targetPort': port, 'protocol': ('TCP', 'UDP')}]}},
    ('apps/v1', 'Deployment'): {'!spec': {
        'replicas': int, 'revisionHistoryLimit': int, '!selector': SELECTOR,
        'strategy': {'!type': ('RollingUpdate', 'Recreate'), 'rollingUpdate': {'maxUnavailable': int, 'maxSurge': int}},
        '!template': {'!metadata': {'!labels': LABELS}, '!spec': POD}}},
    ('policy/v1', 'PodDisruptionBudget'): {'!spec': {
        'maxUnavailable': int, 'minAvailable': int, '!selector': SELECTOR,
        'unhealthyPodEvictionPolicy': ('AlwaysAllow', 'IfHealthyBudget')}},
    ('networking.k8s.io/v1', 'NetworkPolicy'): {'!spec': {
        '!podSelector': SELECTOR, '!policyTypes': [('Ingress', 'Egress')],
        'ingress': [{'from': [{'namespaceSelector': SELECTOR, 'podSelector': SELECTOR}], 'ports': POLICY_PORTS}],
        'egress': [{'to': [{'namespaceSelector': SELECTOR, 'podSelector': SELECTOR}], 'ports': POLICY_PORTS}]}},
    ('autoscaling/v2', 'HorizontalPodAutoscaler'): {'!spec': {
        '!scaleTargetRef': REFERENCE, 'minReplicas': int, '!maxReplicas': int,
        '!metrics': [{'!type': ('Pods', 'Object', 'Resource', 'External'),
                      'pods': {'!metric': {'!name': str}, '!target': METRIC_TARGET},
                      'object': {'!describedObject': REFERENCE, '!metric': {'!name': str}, '!target': METRIC_TARGET},
                      'resource': {'!name': ('cpu', 'memory'), '!target': METRIC_TARGET}}],
        'behavior': {'scaleUp': SCALING, 'scaleDown': SCALING}}},
    ('monitoring.coreos.com/v1', 'ServiceMonitor'): {'!spec': {
        'jobLabel': str, 'namespaceSelector': {'matchNames': [name]}, '!selector': SELECTOR,
        '!endpoints': [{'!port': port, 'path': str, 'interval': str, 'scrapeTimeout': str, 'honorLabels': bool}]}},
    ('monitoring.coreos.com/v1', 'PrometheusRule'): {'!spec': {'!groups': [{'!name': str, '!rules': [{
        'alert': str, 'record': str, '!expr': str, 'for': str, 'labels': LABELS, 'annotations': Map(str)}]}]}},
}


def faults(value, schema, where):
    if isinstance(schema, type):
        if not isinstance(value, schema) or schema is int and isinstance(value, bool):
            yield f'{where}: {value!r} is not a {schema.__name__}'
    elif isinstance(schema, tuple):
        if value not in schema:
            yield f'{where}: {value!r} is not one of {schema}'
    elif isinstance(schema, list):
        if not isinstance(value, list) or not value:
            yield f'{where}: {value!r} is not a list with something in it'
        else:
            for i, item in enumerate(value):
                yield from faults(item, schema[0], f'{where}[{i}]')
    elif isinstance(schema, (dict, Map)):
        if not isinstance(value, dict):
            yield f'{where}: {value!r} is not a map'
        elif isinstance(schema, Map):
            for key, item in value.items():
                yield from faults(item, schema.value, f'{where}.{key}')
        else:
            fields = {key.lstrip('!'): inner for key, inner in schema.items()}
            for key in value.keys() - fields.keys():
                yield f'{where}: unknown field {key}'
            for key in schema:
                if key.startswith('!') and key[1:] not in value:
                    yield f'{where}: {key[1:]} is missing'
            for key in value.keys() & fields.keys():
                yield from faults(value[key], fields[key], f'{where}.{key}')
    elif not schema(value):
        yield f'{where}: {value!r} is no {getattr(schema, "__name__", "such value")}'


def object_faults(thing):
    """Everything that is wrong with one object."""
    key = (thing.get('apiVersion'), thing.get('kind'))
    if key not in KINDS:
        return [f'{key} is not known here']
    where = f'{thing["kind"]}/{thing.get("metadata", {}).get("name")}'
    found = list(faults(thing, {'!apiVersion': str, '!kind': str, '!metadata': METADATA, **KINDS[key]}, where))
    return found + [f'{where}: label {k}' for k in thing.get('metadata', {}).get('labels', {}) if not label_key(k)]
