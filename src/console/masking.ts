/** Masking: what is shown of addresses where the console is not to show who is there. */
import ipaddr from 'ipaddr.js';
import type { ConnectionFigures } from '../stream/survey.js';
import type { Answer, NotedRefusal } from './question.js';

/** The network without the host: `203.0.113.x`, `2001:db8:x`. */
function maskedAddress(address: string): string {
  if (!ipaddr.isValid(address)) return address === '' ? '' : 'x';
  const parsed = ipaddr.process(address);
  if (parsed instanceof ipaddr.IPv6)
    return `${parsed.parts
      .slice(0, 2)
      .map((part) => part.toString(16))
      .join(':')}:x`;
  return `${parsed.octets.slice(0, 3).join('.')}.x`;
}

/** An answer without addresses and users. */
export function masked(answer: Answer): Answer {
  return {
    ...answer,
    ...(answer.connections && {
      connections: answer.connections.map((selected) => ({
        ...selected,
        connections: selected.connections.map(maskedConnection),
      })),
    }),
    ...(answer.refusals && { refusals: answer.refusals.map(maskedRefusal) }),
  };
}

const maskedConnection = (connection: ConnectionFigures): ConnectionFigures => ({
  ...connection,
  address: maskedAddress(connection.address),
  subject: null,
});

const maskedRefusal = (refusal: NotedRefusal): NotedRefusal => ({
  ...refusal,
  address: maskedAddress(refusal.address),
});
