/** The frame: navigation, who is looking, what is away, and the view that the address names. */
import type { ComponentType } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { Session } from './api.js';
import { ChannelsView } from './channels.js';
import { ConnectionsView } from './connections.js';
import { DoctorView } from './doctor.js';
import { EventView } from './event.js';
import { counted } from './format.js';
import { live, startLive, stopLive } from './live.js';
import { LogView } from './log.js';
import { OverviewView } from './overview.js';
import { Empty, Moment, View } from './parts.js';
import { RefusalsView } from './refusals.js';
import { useRoute, type Route } from './route.js';
import { sessionStore, signOut } from './session.js';
import { SignInView } from './sign-in.js';
import { useStore } from './store.js';
import { TokenView } from './token.js';
import { TryView } from './try.js';
import { Text } from './visible.js';

type ViewComponent = ComponentType<{ readonly route: Route }>;

const VIEWS: Readonly<Record<string, readonly [name: string, view: ViewComponent]>> = {
  overview: ['Overview', OverviewView],
  connections: ['Connections', ConnectionsView],
  channels: ['Channels', ChannelsView],
  refusals: ['Refusals', RefusalsView],
  log: ['Log', LogView],
  try: ['Try a stream', TryView],
  token: ['Token', TokenView],
  doctor: ['Doctor', DoctorView],
};

export function App() {
  const { state, session, signIn, reason } = useStore(sessionStore, (all) => all);
  useEffect(() => {
    if (state === 'in') startLive();
    else stopLive();
  }, [state === 'in']);
  const wasOut = useRef(false);
  if (state === 'out') wasOut.current = true;
  if (state === 'in' && session) return <Frame session={session} takesFocus={wasOut.current} />;
  if (state === 'out') return <SignInView signIn={signIn} reason={reason} />;
  return <Alone state={state} />;
}

const ALONE = {
  asking: ['Console', 'Asking the relay…'],
  in: ['Console', 'Asking the relay…'],
  away: ['The relay does not answer', 'This page goes on by itself as soon as it does.'],
  off: [
    'The console is off',
    'This relay does not offer it. CONSOLE=true turns it on; the page goes on by itself then.',
  ],
} as const;

function Alone({ state }: { readonly state: keyof typeof ALONE }) {
  const [title, text] = ALONE[state];
  return (
    <main class="alone" id="main">
      <div class="panel sign-in" role="status">
        <p class="product">outbox-relay</p>
        <h1>{title}</h1>
        <p>{text}</p>
      </div>
    </main>
  );
}

interface FrameProps {
  readonly session: Session;
  /** After a form that had it. */
  readonly takesFocus: boolean;
}

function Frame({ session, takesFocus }: FrameProps) {
  const route = useRoute();
  const main = useRef<HTMLElement>(null);
  const views = useRef<HTMLElement>(null);
  const isFirst = useRef(!takesFocus);
  const place = `${route.view}/${route.item ?? ''}`;
  const [, ViewOf] = route.view === 'events' ? ['', EventView] : (VIEWS[route.view] ?? ['', NoView]);
  useEffect(() => {
    // On a narrow screen the views are a strip that scrolls.
    views.current?.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
    if (isFirst.current) {
      isFirst.current = false;
      return;
    }
    scrollTo(0, 0);
    main.current?.querySelector<HTMLElement>('h1')?.focus({ preventScroll: true });
  }, [place]);
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the view
      </a>
      <header class="top">
        <p class="product">
          outbox-relay <span>console</span>
        </p>
        <Link />
        <Viewer session={session} />
      </header>
      <nav class="views" aria-label="Views" ref={views}>
        <ul>
          {Object.entries(VIEWS).map(([view, [name]]) => {
            const isHere = route.view === view || (view === 'log' && route.view === 'events');
            return (
              <li key={view}>
                <a href={`#/${view}`} aria-current={isHere ? 'page' : undefined}>
                  {name}
                </a>
              </li>
            );
          })}
        </ul>
        <p class="version">
          <Text value={session.version} />
          {session.workers > 1 && `, ${counted(session.workers, 'worker')}`}
        </p>
      </nav>
      <main id="main" ref={main} tabIndex={-1}>
        <Away />
        <ViewOf key={place} route={route} />
      </main>
    </>
  );
}

const LINKS = {
  open: ['is-good', 'Live'],
  connecting: ['is-note', 'Connecting'],
  lost: ['is-bad', 'Away'],
  resting: ['is-note', 'Resting'],
} as const;

function Link() {
  const link = useStore(live, (state) => state.link);
  const [kind, name] = LINKS[link];
  return <span class={`badge link ${kind}`}>{name}</span>;
}

function Viewer({ session: { viewer } }: { readonly session: Session }) {
  if (viewer.kind === 'open') return <span class="viewer">Open to this machine</span>;
  return (
    <span class="viewer">
      <span>{viewer.kind === 'password' ? 'Password' : <Text value={viewer.subject ?? 'Token'} />}</span>
      <button type="button" class="quiet" onClick={() => void signOut()}>
        Sign out
      </button>
    </span>
  );
}

/**
 * What is away, and since when. It is there from the start, empty, so that a screen reader tells of
 * the change.
 */
function Away() {
  const lostAt = useStore(live, (state) => state.lostAt);
  const lostWhy = useStore(live, (state) => state.lostWhy);
  const isThere = useStore(live, (state) => state.overview?.database.connected ?? true);
  return (
    <div role="status">
      {lostAt !== undefined && (
        <p class="notice is-bad">
          <strong>The relay is away</strong> since <Moment at={lostAt} />. {lostWhy} What you see is from before; it
          goes on by itself.
        </p>
      )}
      {lostAt === undefined && !isThere && (
        <p class="notice is-bad">
          <strong>The relay has no database.</strong> Live figures go on; log, events and doctor wait for it.
        </p>
      )}
    </div>
  );
}

function NoView({ route: { view } }: { readonly route: Route }) {
  return (
    <View title="No such view">
      <Empty title="Nothing is here">
        The console has no view <Text value={view} />. <a href="#/overview">To the overview</a>.
      </Empty>
    </View>
  );
}
