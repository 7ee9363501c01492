/**
 * What pages that wait may take together, and how an event that is larger than its page comes through.
 */
import test from 'ava';
import { createBudget, type Room } from '../src/stream/page-budget.js';

test('R5: events that are larger than their page come in as there is room for them, in the order in which they asked', (t) => {
  const budget = createBudget(1000);
  const rooms: Room[] = [];
  const ask = (bytes: number) => budget.whenRoom(bytes, (room) => rooms.push(room));
  ask(600);
  ask(600);
  ask(100);
  t.is(rooms.length, 1, 'the third waits behind the second, for which there is no room');
  rooms[0]?.release();
  t.is(rooms.length, 3);
});

test('R5: readers that were let in with one event hold it once, and leave room for all when they have left', (t) => {
  const budget = createBudget(100);
  const event = Buffer.alloc(40);
  const letGo: (() => void)[] = [];
  for (let reader = 0; reader < 3; reader += 1) {
    budget.whenRoom(event.length, (room) => letGo.push(budget.hold(event, { room })));
  }
  t.is(letGo.length, 3);
  t.is(budget.heldBytes, event.length);
  for (const leave of letGo) leave();
  t.is(budget.heldBytes, 0);
  let isIn = false;
  budget.whenRoom(150, (room) => {
    isIn = true;
    room.release();
  });
  t.true(isIn, 'nothing is left of their rooms');
});

test('R5: an event that is larger than the limit comes in alone, once small pages have left it room', (t) => {
  const budget = createBudget(1000);
  const small = [budget.hold(Buffer.alloc(200)), budget.hold(Buffer.alloc(200))];
  const rooms: Room[] = [];
  budget.whenRoom(5000, (room) => rooms.push(room));
  t.is(rooms.length, 0);
  small[0]?.();
  t.is(rooms.length, 1);
  budget.whenRoom(5000, (room) => rooms.push(room));
  const [room] = rooms;
  const page = Buffer.alloc(5000);
  const release = [budget.hold(page, { room }), budget.hold(page)];
  t.is(budget.heldBytes, 5200, 'counted once, as a page');
  release[0]?.();
  t.is(rooms.length, 1, 'somebody still has not taken it');
  release[1]?.();
  t.is(rooms.length, 2);
});

test('R5: who has left while waiting for room takes none, and lets in who waits behind', (t) => {
  const budget = createBudget(1000);
  const admitted: string[] = [];
  budget.whenRoom(900, () => admitted.push('first'));
  const leave = budget.whenRoom(900, () => admitted.push('second'));
  budget.whenRoom(50, () => admitted.push('third'));
  leave();
  t.deepEqual(admitted, ['first', 'third']);
});

test('R5: who keeps others waiting for room is dropped when it has not taken its event for too long, and nobody else', async (t) => {
  const budget = createBudget(1000, { patienceMs: 200 });
  const dropped: string[] = [];
  const hold = (name: string, room?: Room) => {
    const release = budget.hold(Buffer.alloc(700), {
      room,
      onOverdue() {
        dropped.push(name);
        release();
      },
    });
  };
  budget.whenRoom(700, (room) => hold('slow', room));
  const timer = setInterval(() => undefined, 1000);
  t.teardown(() => clearInterval(timer));
  await new Promise<void>((done) => budget.whenRoom(700, (room) => (hold('next', room), done())));
  t.deepEqual(dropped, ['slow']);
});
