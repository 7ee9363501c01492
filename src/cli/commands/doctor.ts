/**
 * `doctor`: what it finds, and whether that is an error.
 */
import { examine } from '../../admin/doctor/doctor.js';
import { hasErrors, resultsText } from '../../admin/doctor/finding.js';
import { examineStream } from '../../admin/doctor/stream.js';
import { examineTracing } from '../../admin/doctor/tracing.js';
import { readConfig } from '../../config/config.js';
import { databaseUrl } from '../face/required.js';

export async function runDoctor({ json }: { readonly json?: true }): Promise<void> {
  const url = databaseUrl('doctor', ', with the settings of the relay');
  const { listenDatabaseUrl = url, nats, tracing } = readConfig(process.env);
  const results = await examine({ databaseUrl: url, listenDatabaseUrl });
  if (nats) results.push(await examineStream(nats));
  if (tracing) results.push(await examineTracing(process.env));
  console.log(json ? JSON.stringify(results, undefined, 2) : resultsText(results));
  if (hasErrors(results)) process.exitCode = 1;
}
