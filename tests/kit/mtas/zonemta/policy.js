/** A ZoneMTA plugin of the tests: who may log in, and what is refused. */
'use strict';

function refusal(text, code, name) {
  return Object.assign(new Error(text), { responseCode: code, name });
}

module.exports.title = 'policy';
module.exports.init = async (app) => {
  app.addHook('smtp:auth', async (auth) => {
    if (auth.password !== 'opensesame') throw refusal('Authentication failed', 535, 'SMTPResponse');
  });
  app.addHook('message:queue', async (envelope, messageInfo) => {
    if (/refuse me/.test(messageInfo.subject)) {
      throw app.reject(envelope, 'policy', messageInfo, '550 5.7.1 Rejected by policy');
    }
    if (/drop me/.test(messageInfo.subject)) throw app.drop(envelope, 'loop', messageInfo);
  });
};
