-- QMQ's nine tables, by their names and columns. Times are ms since 1970 UTC.
CREATE TABLE broker_group (
  id INTEGER PRIMARY KEY, group_name TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL DEFAULT -1, master_address TEXT NOT NULL DEFAULT '',
  broker_state INTEGER NOT NULL DEFAULT -1, tag TEXT NOT NULL DEFAULT '', ext TEXT, create_time INTEGER NOT NULL, update_time INTEGER NOT NULL);
CREATE TABLE subject_info (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, tag TEXT NOT NULL DEFAULT '', create_time INTEGER NOT NULL, update_time INTEGER NOT NULL);
CREATE TABLE subject_route (
  id INTEGER PRIMARY KEY, subject_info TEXT NOT NULL UNIQUE, broker_group_json TEXT NOT NULL DEFAULT '', version INTEGER NOT NULL DEFAULT 0,
  create_time INTEGER NOT NULL, update_time INTEGER NOT NULL);
CREATE TABLE client_offline_state (
  id INTEGER PRIMARY KEY, client_id TEXT NOT NULL, subject_info TEXT NOT NULL, consumer_group TEXT NOT NULL, state INTEGER NOT NULL DEFAULT 0,
  UNIQUE (client_id, subject_info, consumer_group));
CREATE TABLE broker (
  id INTEGER PRIMARY KEY, group_name TEXT NOT NULL, hostname TEXT NOT NULL, ip INTEGER NOT NULL DEFAULT 0, role INTEGER NOT NULL DEFAULT -1,
  serve_port INTEGER NOT NULL DEFAULT 20881, sync_port INTEGER NOT NULL DEFAULT 20882, create_time INTEGER NOT NULL, update_time INTEGER NOT NULL,
  UNIQUE (hostname, serve_port), UNIQUE (group_name, role));
CREATE TABLE leader_election (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, node TEXT NOT NULL DEFAULT '', last_seen_active INTEGER NOT NULL DEFAULT 0);
CREATE TABLE datasource_config (
  id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, user_name TEXT NOT NULL DEFAULT '', password TEXT NOT NULL DEFAULT '',
  status INTEGER NOT NULL DEFAULT 0, room TEXT NOT NULL DEFAULT '', create_time INTEGER NOT NULL, update_time INTEGER NOT NULL);
CREATE TABLE readonly_broker_group_setting (
  id INTEGER PRIMARY KEY, subject TEXT NOT NULL, broker_group TEXT NOT NULL, create_time INTEGER NOT NULL, UNIQUE (subject, broker_group));
CREATE TABLE client_meta_info (
  id INTEGER PRIMARY KEY, subject_info TEXT NOT NULL, client_type INTEGER NOT NULL DEFAULT 0, consumer_group TEXT NOT NULL, client_id TEXT NOT NULL,
  app_code TEXT NOT NULL DEFAULT '', room TEXT NOT NULL DEFAULT '', online_status TEXT NOT NULL DEFAULT 'ONLINE',
  create_time INTEGER NOT NULL, update_time INTEGER NOT NULL, UNIQUE (subject_info, client_type, consumer_group, client_id));

-- Ours.
CREATE TABLE qmqx_clock (
  id INTEGER PRIMARY KEY CHECK (id = 1), stamp INTEGER NOT NULL, raw INTEGER NOT NULL, swept INTEGER NOT NULL, grace_until INTEGER NOT NULL);
INSERT INTO qmqx_clock (id, stamp, raw, swept, grace_until) VALUES (1, 0, 0, 0, 0);
CREATE TABLE qmqx_group (
  group_name TEXT PRIMARY KEY, epoch INTEGER NOT NULL DEFAULT 0, last_seen INTEGER NOT NULL DEFAULT 0, swept INTEGER NOT NULL DEFAULT 0,
  master_address TEXT NOT NULL DEFAULT '', retiring INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE qmqx_broker (
  id INTEGER PRIMARY KEY, group_name TEXT NOT NULL, hostname TEXT NOT NULL, address TEXT NOT NULL, role INTEGER NOT NULL,
  serve_port INTEGER NOT NULL, sync_port INTEGER NOT NULL, UNIQUE (hostname, serve_port));
CREATE INDEX qmqx_broker_group ON qmqx_broker (group_name, role);
CREATE TABLE qmqx_readonly (subject TEXT NOT NULL, broker_group TEXT NOT NULL, PRIMARY KEY (subject, broker_group)) WITHOUT ROWID;
