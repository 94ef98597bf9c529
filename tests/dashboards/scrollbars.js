// SPDX-License-Identifier: Apache-2.0
// For esbuild: Grafana's .mjs files take this CommonJS package's default export, which Node would not give them.
export { Scrollbars as default } from './node_modules/react-custom-scrollbars-2/lib/index.js';
