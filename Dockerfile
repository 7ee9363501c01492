# outbox-relay: docker build -t outbox-relay .
# The same image migrates a database and serves it: `docker run outbox-relay migrate`.

# Both of these run on the machine that builds, whatever the image is for: all of it is JavaScript.
FROM --platform=$BUILDPLATFORM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# The tests' workspace is not needed for the build; the types of NATS' client are, which is optional.
RUN npm ci --workspaces=false
COPY tsconfig.json ./
COPY src ./src
COPY packages/client ./packages/client
COPY packages/console ./packages/console
RUN npm run build

FROM --platform=$BUILDPLATFORM node:24-slim AS dependencies
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
COPY --from=build /app/dist/packages/console ./dist/packages/console
COPY migrations ./migrations
# `node`, by its number, so that Kubernetes can tell that it is not root. Nothing in /app belongs to it: the relay writes no files,
# and runs on a read-only file system.
USER 1000:1000
EXPOSE 8001
# Alive, not ready: a restart does not help against a database that is away. Load balancers ask /readyz.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# Exec form: SIGTERM reaches node itself, which ends the streams before it goes.
ENTRYPOINT ["node", "dist/src/main.js"]
CMD ["start"]
