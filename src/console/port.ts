/** What the metrics port tells beside metrics: who is connected, and who has got an event. */
import { RequestError } from '../http/request-error.js';
import type { MetricsPages } from '../http/metrics-route.js';
import { databaseAway } from './database-away.js';
import { CHANNELS_SHOWN } from './limits.js';
import { readChannels, readConnections } from './parameters.js';
import type { Peers } from './question.js';
import { sharedPeers } from './shared-peers.js';
import { channelsOf, connectionsOf, deliveryOf, statesOf } from './together.js';

export function metricsPages(all: Peers): MetricsPages {
  const peers = sharedPeers(all);
  return async (path, query) => {
    if (path === '/connections') {
      const wanted = { connections: readConnections(query), channels: readChannels(query, peers.count) };
      const { answers } = await peers.ask({ connections: [wanted.connections], channels: [wanted.channels] });
      const { channels, total: channelsTotal } = channelsOf(answers, 0, CHANNELS_SHOWN);
      const states = answers.length === 0 ? null : statesOf(answers);
      return { ...connectionsOf(answers, 0, wanted.connections), states, channels, channelsTotal };
    }
    const id = /^\/delivered\/(\d{1,19})$/.exec(path)?.[1];
    if (id === undefined) return undefined;
    const { answers } = await peers.ask({ delivered: id }).catch((error: unknown) => {
      throw error instanceof RequestError ? error : databaseAway(error);
    });
    const delivery = deliveryOf(answers);
    if (delivery) return { id, ...delivery };
    throw new RequestError(404, 'unknown_event', `No event with the id ${id} is in the table.`);
  };
}
