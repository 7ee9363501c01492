/**
 * A lagging archive: one that may lead to a standby. What its connections prove before they are asked
 * (see proof.ts) is that it shows all that this relay has heard of. A client may have heard of more,
 * from a relay that was quicker. So a cursor that is not there is looked up once more after it is
 * known how far the archive has to be by now.
 */
import type { Archive } from './archive.js';

/** @param learn resolves once it is known how far the archive has to be to show all that there is. */
export function createLaggingArchive(archive: Archive, learn: () => Promise<void>): Archive {
  return {
    ...archive,
    async lookUpCursors(ids, signal) {
      const found = await archive.lookUpCursors(ids, signal);
      if (found.every(({ kind }) => kind === 'found')) return found;
      await learn();
      return archive.lookUpCursors(ids, signal);
    },
  };
}
