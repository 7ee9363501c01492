# outbox-relay: docker build -t outbox-relay .
# The same image migrates a database and serves it: `docker run outbox-relay migrate`.

FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# The embedded PostgreSQL's binaries (optional) and the tests' workspace are not needed for the build.
RUN npm ci --omit=optional --workspaces=false
COPY tsconfig.json ./
COPY src ./src
COPY packages/client ./packages/client
RUN npm run build

FROM node:24-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --workspaces=false && npm cache clean --force

FROM node:24-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8001
WORKDIR /app
COPY package.json LICENSE ./
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist/src ./dist/src
COPY --from=build /app/dist/packages/client ./dist/packages/client
COPY migrations ./migrations
# Nothing in /app belongs to this user: the relay writes no files.
USER node
EXPOSE 8001
# Alive, not ready: a restart does not help against a database that is away. Load balancers ask /readyz.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# Exec form: SIGTERM reaches node itself, which ends the streams before it goes.
ENTRYPOINT ["node", "dist/src/main.js"]
CMD ["start"]
