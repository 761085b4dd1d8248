-- What a Java metaserver leaves in its database: rows as facts, for the cluster of the operators' document (two machines, two groups of two
-- brokers, one group of two delay servers). The tables are those of 2018: broker_group without ext, client_meta_info without online_status.
SET time_zone = '+08:00';
CREATE TABLE broker_group (id INT UNSIGNED NOT NULL AUTO_INCREMENT, group_name VARCHAR(30) NOT NULL DEFAULT '', kind INT NOT NULL DEFAULT -1,
  master_address VARCHAR(25) NOT NULL DEFAULT '', broker_state TINYINT NOT NULL DEFAULT -1, tag VARCHAR(30) NOT NULL DEFAULT '',
  create_time TIMESTAMP NOT NULL DEFAULT '1970-01-01 08:00:01', update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id), UNIQUE KEY uniq_group_name (group_name)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE subject_info (id INT UNSIGNED NOT NULL AUTO_INCREMENT, name VARCHAR(100) NOT NULL DEFAULT '', tag VARCHAR(30) NOT NULL DEFAULT '',
  create_time TIMESTAMP NOT NULL DEFAULT '1970-01-01 08:00:01', update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id), UNIQUE KEY uniq_name (name)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE subject_route (id INT UNSIGNED NOT NULL AUTO_INCREMENT, subject_info VARCHAR(100) NOT NULL DEFAULT '',
  broker_group_json VARCHAR(300) NOT NULL DEFAULT '', version INT NOT NULL DEFAULT 0,
  create_time TIMESTAMP NOT NULL DEFAULT '1970-01-01 08:00:01', update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id), UNIQUE KEY uniq_subject (subject_info)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE client_offline_state (id INT UNSIGNED NOT NULL AUTO_INCREMENT, client_id VARCHAR(100) NOT NULL DEFAULT '',
  subject_info VARCHAR(100) NOT NULL DEFAULT '', consumer_group VARCHAR(100) NOT NULL DEFAULT '', state TINYINT NOT NULL DEFAULT 0,
  PRIMARY KEY (id), UNIQUE KEY uniq_client_id_subject_group (client_id, subject_info, consumer_group)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE broker (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, group_name VARCHAR(30) NOT NULL DEFAULT '', hostname VARCHAR(50) NOT NULL DEFAULT '',
  ip INT UNSIGNED NOT NULL DEFAULT 0, role INT NOT NULL DEFAULT -1, serve_port INT NOT NULL DEFAULT 20881, sync_port INT NOT NULL DEFAULT 20882,
  create_time TIMESTAMP NOT NULL DEFAULT '2018-01-01 01:01:01', update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id), UNIQUE KEY uniq_broker (hostname, serve_port), UNIQUE KEY uniq_group_role (group_name, role)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE leader_election (id INT UNSIGNED NOT NULL AUTO_INCREMENT, name VARCHAR(128) NOT NULL DEFAULT '', node VARCHAR(128) NOT NULL DEFAULT '',
  last_seen_active BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (id), UNIQUE KEY uniq_idx_name (name)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE datasource_config (id INT UNSIGNED NOT NULL AUTO_INCREMENT, url VARCHAR(128) NOT NULL DEFAULT '', user_name VARCHAR(100) NOT NULL DEFAULT '',
  password VARCHAR(100) NOT NULL DEFAULT '', status TINYINT NOT NULL DEFAULT 0, room VARCHAR(20) NOT NULL DEFAULT '',
  create_time TIMESTAMP NOT NULL DEFAULT '2018-01-01 01:01:01', update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id), UNIQUE KEY uniq_idx_name (url)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE readonly_broker_group_setting (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, subject VARCHAR(100) NOT NULL DEFAULT '',
  broker_group VARCHAR(20) NOT NULL DEFAULT '', create_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (id), UNIQUE KEY uniq_subject_broker_group (subject, broker_group)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE client_meta_info (id INT UNSIGNED NOT NULL AUTO_INCREMENT, subject_info VARCHAR(100) NOT NULL DEFAULT '', client_type TINYINT NOT NULL DEFAULT 0,
  consumer_group VARCHAR(100) NOT NULL DEFAULT '', client_id VARCHAR(100) NOT NULL DEFAULT '', app_code VARCHAR(100) NOT NULL DEFAULT '',
  room VARCHAR(20) NOT NULL DEFAULT '',
  create_time TIMESTAMP NOT NULL DEFAULT '1970-01-01 08:00:01', update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id), UNIQUE KEY uniq_client (subject_info, client_type, consumer_group, client_id)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

-- tools.sh AddBroker leaves the times at their defaults.
INSERT INTO broker (group_name, role, hostname, ip, serve_port, sync_port) VALUES
  ('qmq_group01', 0, 'qmq-server01', INET_ATON('172.168.2.27'), 20881, 20882),
  ('qmq_group01', 1, 'qmq-server02', INET_ATON('172.168.2.28'), 20881, 20882),
  ('qmq_group02', 1, 'qmq-server01', INET_ATON('172.168.2.27'), 20891, 20892),
  ('qmq_group02', 0, 'qmq-server02', INET_ATON('172.168.2.28'), 20891, 20892),
  ('qmq_delayserver_group01', 5, 'qmq-server01', INET_ATON('172.168.2.27'), 20801, 20802),
  ('qmq_delayserver_group01', 6, 'qmq-server02', INET_ATON('172.168.2.28'), 20801, 20802);
INSERT INTO broker_group (group_name, kind, master_address, broker_state, create_time, update_time) VALUES
  ('qmq_group01', 0, '172.168.2.27:20881', 1, '2021-11-17 20:01:02', '2021-11-17 20:01:02'),
  ('qmq_group02', 0, '172.168.2.28:20891', 4, '2021-11-17 20:05:00', '2021-11-18 09:00:00'),
  ('qmq_delayserver_group01', 1, '172.168.2.27:20801', 1, '2021-11-17 21:00:00', '2021-11-17 21:00:00');
INSERT INTO subject_info (name, tag, create_time, update_time) VALUES
  ('your.subject', '', '2021-11-18 10:00:00', '2021-11-18 10:00:00'),
  ('order.changed', 'trade', '2021-11-18 10:00:01', '2021-11-18 10:00:01');
-- Jackson writes lists without blanks. The second was extended once.
INSERT INTO subject_route (subject_info, broker_group_json, version, create_time, update_time) VALUES
  ('your.subject', '["qmq_group01","qmq_group02"]', 0, '2021-11-18 10:00:00', '2021-11-18 10:00:00'),
  ('order.changed', '["qmq_group02","qmq_group01"]', 1, '2021-11-18 10:00:01', '2021-11-18 11:00:01');
INSERT INTO client_meta_info (subject_info, client_type, consumer_group, client_id, app_code, room, create_time) VALUES
  ('your.subject', 1, '', 'qmq-server01@@31313', 'producer_demo', '', '2021-11-18 10:00:00'),
  ('your.subject', 2, 'group-1', 'qmq-server02@@4711', 'consumer_demo', 'default', '2021-11-18 10:00:05'),
  ('your.subject', 2, 'group-1', 'qmq-server01@@4712', 'consumer_demo', 'default', '2021-11-18 10:00:06'),
  ('your.subject', 4, '', 'qmq-server01@@31313', 'producer_demo', '', '2021-11-18 10:00:07');
INSERT INTO client_offline_state (client_id, subject_info, consumer_group, state) VALUES
  ('qmq-server02@@4711', 'your.subject', 'group-1', 1),
  ('qmq-server01@@4712', 'your.subject', 'group-1', 0);
INSERT INTO readonly_broker_group_setting (subject, broker_group) VALUES ('*', 'qmq_group02');
INSERT INTO leader_election (name, node, last_seen_active) VALUES ('qmq-watchdog', 'qmq-server02', 1637204400000);
INSERT INTO datasource_config (url, user_name, password, status, room) VALUES ('jdbc:mysql://devmysql.hs.com:3306/orders', 'orders', 'secret', 0, 'default');
SET time_zone = DEFAULT;
