/**
 * `doctor`: what it finds, and whether that is an error.
 */
import { examineAll } from '../../admin/doctor/all.js';
import { hasErrors, resultsText } from '../../admin/doctor/finding.js';
import { readConfig } from '../../config/config.js';
import { databaseUrl } from '../face/required.js';

export async function runDoctor({ json }: { readonly json?: true }): Promise<void> {
  const url = databaseUrl('doctor', ', with the settings of the relay');
  const { listenDatabaseUrl = url, nats, tracing } = readConfig(process.env);
  const results = await examineAll({ databaseUrl: url, listenDatabaseUrl, nats, tracing }, process.env);
  console.log(json ? JSON.stringify(results, undefined, 2) : resultsText(results));
  if (hasErrors(results)) process.exitCode = 1;
}
