// SPDX-License-Identifier: Apache-2.0
// Reads a JSON list of objects; says, a line each, which of them the schemas of their kinds reject.
import { readFileSync } from 'node:fs';
import { DaemonSet } from 'kubernetes-models/apps/v1';
import { Namespace, Service } from 'kubernetes-models/v1';
import { PrometheusRule, ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';

const kinds = { DaemonSet, Namespace, PrometheusRule, Service, ServiceMonitor };
for (const object of JSON.parse(readFileSync(0))) {
  try {
    new kinds[object.kind](object).validate();
  } catch (error) {
    console.log(`${object.kind}: ${error.message}`);
  }
}
